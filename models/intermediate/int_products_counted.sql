with

{% if var('pair_engine') == 'dask' %}

counted as (

    select
        product_id,
        product_number,
        basket_count
    from {{ ref('stg_products_counted') }}

)

{% else %}

basket_items as (

    select product_number
    from {{ ref('int_basket_items') }}

),

products as (

    select
        product_id,
        product_number
    from {{ ref('int_products_numbered') }}

),

counted as (

    select
        products.product_id,
        products.product_number,
        count(*) as basket_count
    from basket_items
    inner join products
        on basket_items.product_number = products.product_number
    group by
        products.product_id,
        products.product_number

)

{% endif %}

select * from counted
