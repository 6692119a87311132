with

line_items as (

    select
        order_id,
        product_id
    from {{ ref('int_line_items_purchased') }}

),

products as (

    select product_id from {{ ref('stg_products') }}

),

counted as (

    select
        product_id,
        count(distinct order_id) as basket_count
    from line_items
    group by product_id

),

keyed as (

    select
        counted.product_id,
        (row_number() over (order by counted.basket_count desc, counted.product_id asc))::integer
            as product_key,
        counted.basket_count,
        products.product_id is not null as is_in_catalogue
    from counted
    left join products
        on counted.product_id = products.product_id

)

select * from keyed
