with

basket_items as (

    select
        product_number,
        is_test
    from {{ ref('int_evaluation_basket_items') }}

),

products as (

    select
        product_id,
        product_number
    from {{ ref('int_products_numbered') }}

),

catalogue as (

    select product_id from {{ ref('stg_products') }}

),

counted as (

    select
        product_number,
        count(*) filter (where not is_test) as basket_count,
        count(*) filter (where is_test) as test_basket_count
    from basket_items
    group by product_number

),

keyed as (

    select
        counted.product_number,
        (
            row_number() over (order by counted.basket_count desc, products.product_id asc)
        )::integer as product_key,
        counted.basket_count,
        counted.test_basket_count,
        catalogue.product_id is not null as is_in_catalogue
    from counted
    inner join products
        on counted.product_number = products.product_number
    left join catalogue
        on products.product_id = catalogue.product_id

)

select * from keyed
