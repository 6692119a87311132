with

products_counted as (

    select
        product_id,
        product_number,
        basket_count
    from {{ ref('int_products_counted') }}

),

products as (

    select product_id from {{ ref('stg_products') }}

),

keyed as (

    select
        products_counted.product_id,
        products_counted.product_number,
        (
            row_number() over (
                order by products_counted.basket_count desc, products_counted.product_id asc
            )
        )::integer as product_key,
        products_counted.basket_count,
        products.product_id is not null as is_in_catalogue
    from products_counted
    left join products
        on products_counted.product_id = products.product_id

)

select * from keyed
